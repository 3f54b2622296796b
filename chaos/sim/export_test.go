package sim

import "github.com/anishathalye/porcupine"

// WithStaleReads has members answer reads without asking the leader.
func (c Config) WithStaleReads() Config {
	c.sabotage.staleReads = true
	return c
}

// WithHastyAcks has members acknowledge appends that they only proposed.
func (c Config) WithHastyAcks() Config {
	c.sabotage.hastyAcks = true
	return c
}

// Op is an operation of a history, of one list.
type Op struct {
	Client, Seq  int // of an append
	Read         string
	Call, Return int64 // 0: its end is not known
}

// Linearizable judges a history that ended with a list as it is in final.
func (j *Judge) Linearizable(final string, ops ...Op) bool {
	var seen []porcupine.Operation
	for _, op := range ops {
		o := porcupine.Operation{Input: command{op.Client, op.Seq, "l"}, Call: op.Call, Return: op.Return}
		if op.Client == 0 {
			o.Output = op.Read
		}
		if op.Return == 0 {
			o.Return = endOfTime
		}
		seen = append(seen, o)
	}
	order.Store(1000) // the final read comes last
	return j.linearizable(historyOf(seen, map[string]string{"l": final}, []string{"l"})) == porcupine.Ok
}
