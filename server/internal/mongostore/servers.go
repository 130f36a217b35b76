package mongostore

import "context"

// SeenEvery is how often a server that has stored anything since its start says that it
// is there.
const SeenEvery = beat

// Servers returns, for each server that stores entries and has not ended, when it last
// said that it is there, by its own clock. One that died is among them. So whoever asks
// twice, more than SeenEvery apart, knows which of them are at work: those whose time has
// changed. A server that has stored nothing since its start is not among them.
func (s *Store) Servers(ctx context.Context) (map[string]int64, error) {
	docs, err := s.told(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, d := range docs {
		if d.Last == nil {
			out[d.ID] = d.Seen
		}
	}
	return out, nil
}
