<?php
// Bob is in so many groups that his assertion is some 300 KiB long.
$many = array_map(fn ($number) => "cn=department $number,ou=groups,dc=corp,dc=example", range(1, 2000));
$config = [
    'people' => [
        'exampleauth:UserPass',
        'alice:looking-glass' => ['uid' => ['alice'], 'mail' => ['alice@corp.example'], 'groups' => ['staff', 'café & crème']],
        'bob:scaffold' => ['uid' => ['bob'], 'mail' => ['bob@corp.example'], 'groups' => $many],
    ],
];
