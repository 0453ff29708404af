//! TestApp, fixtures, clock. Only ever a dev-dependency.
