"""Training: the LightningModule, optimizer and schedule, and the trainer around them."""
