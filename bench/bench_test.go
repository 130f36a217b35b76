package main

import (
	"testing"
	"time"
)

func TestReadCPU(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"7 (xuncha) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 9 0 100 1 2":     3 * time.Second,
		"7 (a (b) c d) S 1 7 7 0 -1 4194560 1 2 3 4 1 0 9 9 20 0 9 0 100 1 2":     10 * time.Millisecond,
		"7 (spaces in it) R 1 7 7 0 -1 4194560 1 2 3 4 0 0 9 9 20 0 9 0 100 1 2 ": 0,
	} {
		if got, err := readCPU(stat); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "7 (xuncha) S 1 2", "7 (xuncha) S 1 7 7 0 -1 4194560 1 2 3 4 x 50 9"} {
		if got, err := readCPU(stat); err == nil {
			t.Errorf("%q: got %v, want an error", stat, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{9, 1, 5, 3}, 5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
}
