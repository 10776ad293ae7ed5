"""What training would make of the rows of a data set, told without training."""
