package samplelog

// applier applies groups in commit order, beside the commit of the next group.
func (l *Log) applier() {
	for {
		select {
		case group, ok := <-l.apply:
			if !ok {
				return
			}
			l.applyGroup(group)
		case ack := <-l.rest:
			for len(l.apply) > 0 {
				l.applyGroup(<-l.apply)
			}
			close(ack)
		}
	}
}

func (l *Log) applyGroup(group []*Item) {
	for _, item := range group {
		if item.Apply != nil {
			item.Apply()
		}
	}
	l.setApplied(group[len(group)-1].reached)
	for _, item := range group {
		if item.barrier != nil {
			item.barrier(l.applied)
		}
		item.done <- nil
	}
}

// settle waits until all committed groups are applied, and says how far that is. Called by the writer, which alone feeds
// the applier.
func (l *Log) settle() Position {
	ack := make(chan struct{})
	l.rest <- ack
	<-ack
	return l.applied.Position
}

func (l *Log) setApplied(line Line) { l.applied = line }
