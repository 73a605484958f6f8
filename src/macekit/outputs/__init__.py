"""What is made of a model: derivatives and predictions."""
