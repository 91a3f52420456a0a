"""`cvfs setup`: what makes /cvmfs appear at boot, planned, shown, done, remembered and taken back."""
