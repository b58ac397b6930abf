"""What surrounds the API: the socket, the life of the server, the gate before every route, the page's files."""
