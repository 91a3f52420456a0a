"""Magic extended attributes: what a mount tells of itself and of its entries, by names that were never published."""
