"""The HTTP server: OpenAI's API and the chat page over any `LanguageModel`.

Nothing is imported here: `server.run` binds the port and starts loading the model before the web framework is imported.
"""
