package rpc

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
)

// TestTodayWithoutMidnight ensures that the window of today is the whole day where clocks
// are set forward at midnight, on that day and on the one before, and that a list goes on
// with it.
func TestTodayWithoutMidnight(t *testing.T) {
	for _, tt := range []struct{ zone, now, start, end string }{
		{"America/Sao_Paulo", "2018-11-03T12:00:00-03:00", "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"},
		{"America/Sao_Paulo", "2018-11-03T23:30:00-03:00", "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"},
		{"America/Sao_Paulo", "2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"},
		{"Africa/Cairo", "2023-04-28T12:00:00+03:00", "2023-04-28T01:00:00+03:00", "2023-04-29T00:00:00+03:00"},
		{"Asia/Beirut", "2023-03-25T12:00:00+02:00", "2023-03-25T00:00:00+02:00", "2023-03-26T01:00:00+03:00"},
		{"Pacific/Apia", "2011-12-29T12:00:00-10:00", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"},
		{"Asia/Shanghai", "2026-11-26T12:00:00+08:00", "2026-11-26T00:00:00+08:00", "2026-11-27T00:00:00+08:00"},
	} {
		moment := func(s string) time.Time { return must(time.Parse(time.RFC3339, s))(t) }
		c := &Config{Zone: must(time.LoadLocation(tt.zone))(t), Now: func() time.Time { return moment(tt.now) }}
		wanted := func(what string, q inspections.Question) {
			t.Helper()
			if !q.Start.Equal(moment(tt.start)) || !q.End.Equal(moment(tt.end)) {
				t.Errorf("%s, %s at %s: got %v to %v, want %s to %s", what, tt.zone, tt.now, q.Start, q.End, tt.start, tt.end)
			}
		}
		q := must(c.question("511600", nil, nil, nil))(t)
		wanted("today", q)
		var taken time.Time
		if err := c.resume(&q, nil, nil, &taken); err != nil {
			t.Fatal(err)
		}
		wanted("the first page", q)
		q = inspections.Question{}
		if err := c.resume(&q, nil, nil, &taken); err != nil {
			t.Fatal(err)
		}
		wanted("the next page", q)
		wanted("the end of a day", must(c.question("511600", timestamppb.New(moment(tt.start)), nil, nil))(t))
	}
}
