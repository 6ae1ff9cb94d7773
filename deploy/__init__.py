"""What a person or a cluster starts: the command line, recipes, generation, the demo."""
