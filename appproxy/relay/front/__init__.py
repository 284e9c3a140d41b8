"""The front: clients' connections, HTTP/1.1 and HTTP/2, as exchanges; the gateway takes each of them from here."""
