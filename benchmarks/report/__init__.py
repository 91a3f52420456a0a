"""What people look at: pages, plots, flame graphs, all made of a report that was read or just measured."""
