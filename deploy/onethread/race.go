//go:build race

package onethread

const raceDetector = true
