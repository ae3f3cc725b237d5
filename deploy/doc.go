// Package deploy has no code: it holds what promkeep is deployed with, and the tests of the dashboards and alerts of
// charts/promkeep against the running binary. What needs more than promkeep's own dependencies is tested in charts/tests.
package deploy
