"""`pgpeer demo`: the main job, shown with real data, real servers and real processes."""
