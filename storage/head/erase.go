package head

import "github.com/promkeep/promkeep/storage/series"

// Unflushed tells whether the series has a sample in [mint, maxt] (ms) that is not flushed.
func (s *Series) Unflushed(mint, maxt int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples(mint, maxt)) > 0 {
		return true
	}
	if s.extra != nil {
		for _, part := range [2][]series.Histogram{s.extra.sealed, s.extra.open} {
			for _, x := range part {
				if x.T >= mint && x.T <= maxt {
					return true
				}
			}
		}
	}
	return false
}

// Rewrite puts what fn makes of the flushed rows of a series in their place. Flushing and Evict must not run at the same time. Views
// that were taken before keep what they have.
func (h *Head) Rewrite(s *Series, fn func([]Row) ([]Row, error)) error {
	s.mu.Lock()
	before := s.rows.all()
	s.mu.Unlock()
	if len(before) == 0 {
		return nil
	}
	out, err := fn(before)
	if err != nil {
		return err
	}
	cached := rows(nil).with(out...)
	s.mu.Lock()
	s.rows = cached
	s.mu.Unlock()
	for _, r := range before {
		h.cached.Add(-r.bytes())
	}
	for _, r := range out {
		h.cached.Add(r.bytes())
	}
	return nil
}
