"""The routes of files, uploads in parts, vector stores and their files."""
