// Package app is the command line of promkeep: flags, and the wiring of what serve and migrate need. It knows which parts
// there are, and must not know how any of them works.
package app
