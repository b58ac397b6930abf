"""Models that are known without being here: the Open-LLMs table, and those that the lecture names."""
