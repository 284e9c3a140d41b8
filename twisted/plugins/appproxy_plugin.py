"""Tell ``twistd`` of its two commands; modules are named by text so that listing plug-ins imports nothing of ours."""

from twisted.application.service import ServiceMaker

relay = ServiceMaker("appproxy relay", "appproxy.relay.tap", "Accept users and connectors.", "appproxy-relay")
connector = ServiceMaker("appproxy connector", "appproxy.connector.tap", "Carry requests inside.", "appproxy-connector")
