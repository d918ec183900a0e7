"""Labels made better by hand: choosing, editing, shaping and combining objects in memory."""
