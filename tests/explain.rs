//! `lotus explain`: captures made by hand and captures of others, through the built program.

#[path = "explain/captures.rs"]
mod captures;
#[path = "explain/run.rs"]
mod run;

#[path = "explain/scenarios.rs"]
mod scenarios;
#[path = "explain/scene.rs"]
mod scene;
#[path = "explain/strange.rs"]
mod strange;
#[path = "explain/wrong.rs"]
mod wrong;
