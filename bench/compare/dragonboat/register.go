package main

import (
	"encoding/binary"
	"io"

	"github.com/lni/dragonboat/v4/statemachine"
)

// register is what the groups replicate: it keeps the last command, and counts all of them. It is the state machine of
// `purlin-bench in-process`.
type register struct {
	last  []byte
	count uint64
}

func newRegister(_, _ uint64) statemachine.IStateMachine { return &register{} }

func (r *register) Update(entry statemachine.Entry) (statemachine.Result, error) {
	r.last = append(r.last[:0], entry.Cmd...)
	r.count++
	return statemachine.Result{}, nil
}

func (r *register) Lookup(any) (any, error) { return r.count, nil }

func (r *register) SaveSnapshot(w io.Writer, _ statemachine.ISnapshotFileCollection, _ <-chan struct{}) error {
	_, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, r.count), r.last...))
	return err
}

func (r *register) RecoverFromSnapshot(from io.Reader, _ []statemachine.SnapshotFile, _ <-chan struct{}) error {
	state, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	if len(state) < 8 {
		return io.ErrUnexpectedEOF
	}
	r.count, r.last = binary.LittleEndian.Uint64(state), state[8:]
	return nil
}

func (r *register) Close() error { return nil }
