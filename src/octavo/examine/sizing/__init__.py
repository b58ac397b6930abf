"""What a model costs, from its config alone: parameters, arithmetic, memory, and the speed that memory allows."""
