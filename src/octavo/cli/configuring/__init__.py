"""Settings of the command line: config.toml and the environment as defaults of options, and showing them."""
