"""The Model Context Protocol: what Octavo offers to editors, and the tools of servers that its user has named."""
