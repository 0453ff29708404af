//! The one place that knows them all: API, controllers, auth, the assembled control plane.
