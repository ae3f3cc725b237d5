package samplelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/promkeep/promkeep/schema"
)

// session is one connection, the leader's lock, and the one segment that it writes.
type session struct {
	conn    *pgx.Conn
	segment int32
	seq     int64 // of the last row committed
}

// lead connects and waits until this process is the leader. The lock lives on the session that writes the log, so that a
// process that lost the one cannot go on with the other.
func (l *Log) lead(ctx context.Context) (*session, error) {
	conn, err := l.cfg.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	s := &session{conn: conn}
	if _, err := conn.Exec(ctx, schema.LogGeneric); err != nil {
		s.close()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := l.lock(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (l *Log) lock(ctx context.Context, s *session) error {
	for waited := false; ; waited = true {
		var leads bool
		if err := s.conn.QueryRow(ctx, schema.LeaderLock).Scan(&leads); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if leads {
			break
		}
		if !waited {
			l.cfg.Logger.Warn("another promkeep serves this database; standing by until it stops")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.cfg.StandbyInterval):
		}
	}
	if l.epoch.Load() == 0 {
		var epoch int64
		if err := s.conn.QueryRow(ctx, schema.LeaderEpochNext).Scan(&epoch); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		l.epoch.Store(epoch)
		return nil
	}
	var epoch int64
	if err := s.conn.QueryRow(ctx, schema.LeaderEpoch).Scan(&epoch); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if epoch != l.epoch.Load() {
		return ErrFenced
	}
	return nil
}

// open begins the next segment. All earlier ones are sealed: their writers held the leader's lock, and are gone.
func (l *Log) open(ctx context.Context, s *session) error {
	err := pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, schema.SegmentOpen, l.stream, l.number+1).Scan(&s.segment); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, schema.SegmentLock, s.segment); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema.SegmentSeal, s.segment)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.number++
	return nil
}

// append commits rows as the next of the segment.
func (s *session) append(ctx context.Context, to Table, rows [][]byte) error {
	tag, err := s.conn.Exec(ctx, tables[to].append, s.segment, s.seq, rows)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != int64(len(rows)) {
		return errors.New("the log took fewer rows than it was given")
	}
	s.seq += int64(len(rows))
	return nil
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx)
}

// replay reads all rows after pos that are not flushed, in order.
func (s *session) replay(ctx context.Context, pos Position, apply func(payload []byte) error) error {
	rows, err := s.conn.Query(ctx, schema.LogReplay, pos.Segment, pos.Seq)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer rows.Close()
	var payload pgtype.DriverBytes
	for rows.Next() {
		var at Position
		if err := rows.Scan(&at.Segment, &at.Seq, &payload); err != nil {
			return err
		}
		if err := apply(payload); err != nil {
			return fmt.Errorf("log segment %d, row %d: %w", at.Segment, at.Seq, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
