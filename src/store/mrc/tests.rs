//! Curves that can be computed, and limits that are reached.

mod predictor;
mod simulation;
