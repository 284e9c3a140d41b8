"""Who may do what: assignment, rules, how often, and why; one evaluator for gate, portal and explanation."""
