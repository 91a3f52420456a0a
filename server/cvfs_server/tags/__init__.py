"""Named revisions, branches, and the way back to them."""
