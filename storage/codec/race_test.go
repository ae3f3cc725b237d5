//go:build race

package codec

// raceDetector says that this is a run under the race detector, which lets pools forget at random.
const raceDetector = true
