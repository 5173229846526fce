//go:build !race

package sim_test

// raceDetector: this is a build with the race detector.
const raceDetector = false
