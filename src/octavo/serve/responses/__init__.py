"""The Responses API behind its routes: input items, events, and the runs that answer."""
