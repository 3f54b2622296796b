package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// Save writes results.md, results.png and results.json to dir, goodput.png if followers were looked at over time, and summary.png
// if the scenarios of the README were run.
func Save(dir string, env Environment, samples []Sample, scenarios []scenario.Scenario, systems []system.System) error {
	r := Summarize(samples)
	var md, chart bytes.Buffer
	fmt.Fprintf(&md, "# Results\n\n%s\nMedians, with the least and the most in brackets. [How it is measured](../README.md).\n\n", env)
	md.WriteString("![a panel for each scenario, a bar for each system](results.png)\n")
	Tables(&md, r, scenarios, systems)
	files := map[string][]byte{}
	if some := followed(scenarios); len(some) > 0 {
		var goodput bytes.Buffer
		if err := GoodputChart(&goodput, samples, some, systems); err != nil {
			return err
		}
		files["goodput.png"] = goodput.Bytes()
		md.WriteString("\n![MB/s to the follower in the course of time](goodput.png)\n")
	}
	md.WriteString("\n## What is promised\n\n")
	Check(&md, r, scenarios, Floors)
	if err := Chart(&chart, r, scenarios, systems); err != nil {
		return err
	}
	var three bytes.Buffer
	if ok, err := SummaryChart(&three, r, scenarios, systems); err != nil {
		return err
	} else if ok {
		files["summary.png"] = three.Bytes()
	}
	files["results.md"], files["results.png"] = md.Bytes(), chart.Bytes()
	return saveAll(dir, files, "results.json", env, samples)
}

// raw is what is kept of a run for other programs.
type raw struct {
	Environment Environment `json:"environment"`
	Samples     []Sample    `json:"samples"`
}

func saveAll(dir string, files map[string][]byte, rawName string, env Environment, samples []Sample) error {
	var b bytes.Buffer
	if err := writeRaw(&b, raw{env, samples}); err != nil {
		return err
	}
	files[rawName] = b.Bytes()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeRaw writes a line for each sample, which can be read and compared.
func writeRaw(w io.Writer, r raw) error {
	env, err := json.Marshal(r.Environment)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "{\"environment\": %s,\n\"samples\": [", env)
	for i, s := range r.Samples {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		sep := ",\n"
		if i == 0 {
			sep = "\n"
		}
		fmt.Fprintf(w, "%s%s", sep, line)
	}
	_, err = fmt.Fprintln(w, "\n]}")
	return err
}

// Load reads what Save has written.
func Load(path string) (Environment, []Sample, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Environment{}, nil, err
	}
	var r raw
	err = json.Unmarshal(b, &r)
	return r.Environment, r.Samples, err
}
