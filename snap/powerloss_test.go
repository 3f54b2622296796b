package snap_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-4d73690b/rafthttp/snap"
)

const powerlossDir = "/var/member/snap"

var errKilled = errors.New("the process was killed")

// life is what a server does with a store, and what the store promised by that.
type life struct {
	t     *testing.T
	disk  *disk
	store *snap.Store
	tries []saving
}

// saving is a database that was given to the store.
type saving struct {
	index    uint64
	data     string
	begun    int // the last call to the disk before
	promised int // the last call before the store said that it is saved; 0: it did not
	removed  int // the last call before it was to be removed; 0: it was not
}

type act func(l *life) error

// open opens the store, which promises what is there.
func open(l *life) (err error) {
	if l.store, err = snap.OpenOn(powerlossDir, l.disk); err != nil {
		return err
	}
	_, dir, err := l.disk.now.find(powerlossDir)
	if err != nil {
		return err
	}
	for name, file := range l.disk.now.dirs[dir] {
		index, err := indexOf(name)
		if err != nil {
			return err
		}
		l.tries = append(l.tries, saving{index: index, data: string(l.disk.now.files[file]), begun: l.disk.calls - 1, promised: l.disk.calls})
	}
	return nil
}

func indexOf(name string) (index uint64, err error) {
	if _, err := fmt.Sscanf(name, "%016x.snap.db", &index); err != nil || name != fmt.Sprintf("%016x.snap.db", index) {
		return 0, fmt.Errorf("a leftover: %s", name)
	}
	return index, nil
}

func save(index uint64, data string) act {
	return func(l *life) error {
		return l.saving(index, data, func() error {
			_, err := l.store.SaveDBFrom(strings.NewReader(data), index)
			return err
		})
	}
}

func resume(index uint64, data string) act {
	return func(l *life) error {
		return l.saving(index, data, func() error {
			tr := transferOf(data, 1, index)
			offset, _ := l.store.PartialDB(tr)
			_, err := l.store.ResumeDBFrom(strings.NewReader(data[offset:]), tr, offset, sumOf(data))
			return err
		})
	}
}

// begin brings half of a database.
func begin(index uint64, data string) act {
	return func(l *life) error {
		return l.saving(index, data, func() error {
			_, err := l.store.ResumeDBFrom(cutAfter(data, len(data)/2), transferOf(data, 1, index), 0, sumOf(data))
			return err
		})
	}
}

func removeBefore(index uint64) act {
	return func(l *life) error {
		l.removing(func(id uint64) bool { return id < index })
		return l.store.RemoveBefore(index)
	}
}

func removeUnclaimed(index uint64) act {
	return func(l *life) error {
		l.removing(func(id uint64) bool { return id != index })
		return l.store.RemoveUnclaimed(index)
	}
}

func discard(index uint64) act {
	return func(l *life) error {
		l.removing(func(id uint64) bool { return id == index })
		l.store.DiscardDB(index, nil)
		return nil
	}
}

func (l *life) removing(which func(uint64) bool) {
	for i := range l.tries {
		if s := &l.tries[i]; which(s.index) && s.removed == 0 {
			s.removed = l.disk.calls
		}
	}
}

// damage is what a disk does to a database that it has stored.
func damage(index uint64, data string) act {
	return func(l *life) error {
		_, of, err := l.disk.now.find(fmt.Sprintf("%s/%016x.snap.db", powerlossDir, index))
		if err != nil {
			return err
		}
		l.disk.change(&change{durable: l.disk.calls, dir: of, data: []byte(data)})
		l.tries = append(l.tries, saving{index: index, data: data, begun: l.disk.calls - 1, promised: l.disk.calls})
		return nil
	}
}

func (l *life) saving(index uint64, data string, do func() error) error {
	l.tries = append(l.tries, saving{index: index, data: data, begun: l.disk.calls})
	err := do()
	switch {
	case err == nil:
		l.tries[len(l.tries)-1].promised = l.disk.calls
	case errors.Is(err, errCut):
		return nil
	}
	return err
}

// live carries out the acts, each until it succeeds. A server that is killed begins anew.
func (l *life) live(acts []act) {
	for i := 0; i < len(acts); {
		var err error
		for range 6 {
			if err = acts[i](l); err == nil || errors.Is(err, errKilled) {
				break
			}
		}
		switch {
		case errors.Is(err, errKilled):
			i, l.disk.fault = 0, nil
		case err != nil:
			l.t.Fatalf("act %d fails again and again: %v", i, err)
		default:
			i++
		}
	}
}

// check opens the store on what a loss of power after some call has left.
func (l *life) check(survivor *disk, after int) error {
	if _, err := snap.OpenOn(powerlossDir, survivor); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	_, dir, err := survivor.now.find(powerlossDir)
	if err != nil {
		return err
	}
	found := map[uint64]bool{}
	for name, file := range survivor.now.dirs[dir] {
		index, err := indexOf(name)
		if err != nil {
			return err
		}
		if got := string(survivor.now.files[file]); !slices.Contains(l.whole(index, after), got) {
			return fmt.Errorf("database %d is %q, not one of %q", index, got, l.whole(index, after))
		}
		found[index] = true
	}
	for _, s := range l.tries {
		if s.promised > 0 && s.promised <= after && (s.removed == 0 || after <= s.removed) && !found[s.index] {
			return fmt.Errorf("database %d was saved, and is gone", s.index)
		}
	}
	return nil
}

// whole returns what a database may be: what the store said last that is saved, or what it began to save after that.
func (l *life) whole(index uint64, after int) (all []string) {
	for _, s := range l.tries {
		if s.index != index || s.begun >= after {
			continue
		}
		if s.promised > 0 && s.promised <= after {
			all = nil
		}
		all = append(all, s.data)
	}
	return all
}

// checkAll loses the power after each call from one on, in each way.
func (l *life) checkAll(from int, what string) (states int) {
	for after := from; after <= l.disk.calls; after++ {
		l.disk.lostPower(after, func(survivor *disk, fates map[*change]fate) {
			states++
			if err := l.check(survivor, after); err != nil {
				var lost []string
				for c, f := range fates {
					lost = append(lost, fmt.Sprintf("call %d: %v", c.call, f))
				}
				l.t.Fatalf("%s; power lost after call %d; fates of what was not synced %v: %v", what, after, lost, err)
			}
		})
	}
	return states
}

var lives = map[string][]act{
	"saved":               {open, save(7, "abcd"), save(9, "efgh")},
	"resumed":             {open, begin(7, "abcd"), resume(7, "abcd")},
	"saved twice":         {open, save(7, "abcd"), resume(7, "efgh")},
	"opened again":        {open, save(7, "abcd"), open, save(9, "efgh")},
	"begun and saved":     {open, begin(7, "abcd"), resume(8, "efgh")},
	"damaged":             {open, save(7, "abcd"), damage(7, "!!!!"), save(7, "efgh")},
	"discarded and saved": {open, save(7, "abcd"), discard(7), save(7, "efgh")},
	"unclaimed":           {open, save(7, "abcd"), save(9, "efgh"), open, removeUnclaimed(9)},
	"removed and saved":   {open, save(7, "abcd"), removeBefore(8), save(7, "efgh")},
}

// TestPowerLoss: whatever of what was not synced a loss of power takes along, at any moment, in a life without faults, in
// one with one or two failing calls in a row, and in one whose process was killed before: what the store said is saved is
// there and whole, what it did not is whole or not there, and Open succeeds.
func TestPowerLoss(t *testing.T) {
	for name, acts := range lives {
		t.Run(name, func(t *testing.T) {
			states := 0
			run := func(from int, what string, fault func(int, string) error) int {
				l := &life{t: t, disk: emptyDisk()}
				l.disk.fault = fault
				l.live(acts)
				states += l.checkAll(from, what)
				return l.disk.calls
			}
			calls := run(0, "no fault", nil)
			for at := 1; at <= calls; at++ {
				for n := 1; n <= 2; n++ {
					run(at, fmt.Sprintf("calls %d to %d fail", at, at+n-1), func(call int, name string) error {
						if call >= at && call < at+n {
							return fmt.Errorf("%s: %w", name, syscall.EIO)
						}
						return nil
					})
				}
				run(at, fmt.Sprintf("killed before call %d", at), func(call int, name string) error {
					if call >= at {
						return errKilled
					}
					return nil
				})
			}
			t.Logf("%d calls, %d states of the disk", calls, states)
		})
	}
}

// TestDiskIsUsedUnderNoLock: PartialDB waits for no call to the disk, slow as it may be, of which each fails in one of the
// lives.
func TestDiskIsUsedUnderNoLock(t *testing.T) {
	acts := append(lives["resumed"], resume(7, "abcd"), begin(7, "efgh"), begin(8, "ijkl"), begin(9, "mnop"), removeBefore(8))
	calls := 0
	for failing := 0; failing <= calls; failing++ {
		l := &life{t: t, disk: emptyDisk()}
		l.disk.fault = func(call int, name string) error {
			if l.store != nil && l.store.Locked() {
				t.Errorf("%s under the lock", name)
			}
			if call == failing {
				return syscall.ENOSPC
			}
			return nil
		}
		l.live(acts)
		calls = max(calls, l.disk.calls)
	}
}

// emptyDisk has the directory above that of a member.
func emptyDisk() *disk {
	d := newDisk()
	d.now.dirs[0]["var"], d.now.dirs[1], d.now.next = 1, map[string]node{}, 2
	return diskOf(d.now)
}
