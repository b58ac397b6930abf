"""Runs that begin with a model: trained on as it is, or with adapters beside its frozen matrices."""
