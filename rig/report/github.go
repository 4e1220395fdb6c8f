package report

import (
	"fmt"
	"io"
	"strings"

	"dsoftbus-rig/rig/record"
)

// Limits of what GitHub gets: it shows 1 MiB of a summary, and no more than some annotations.
const (
	mostRows        = 200 // scenarios of a table
	mostDetails     = 20  // scenarios with the evidence of their failure
	mostLines       = 8   // of a message, and of evidence
	mostAnnotations = 50
)

// Markdown writes a run as GitHub shows it on the page of a job (GITHUB_STEP_SUMMARY): what it amounts to, a table of the scenarios that are not green, and
// one of the others folded away. Notes say what is new beside earlier runs, or slower. All text is made harmless to Markdown.
func Markdown(w io.Writer, s record.Summary, notes []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n%s in %s", markdown(s.Name), markdown(string(s.Result)), Count(s), duration(s.Seconds))
	if s.Host.Line != "" {
		fmt.Fprintf(&b, ", on %s", markdown(s.Host.Line))
	}
	b.WriteString("\n\n")
	if f := s.Failure; f != nil {
		fmt.Fprintf(&b, "**%s**: %s\n\n", markdown(string(f.Reason)), markdown(Headline(f)))
		details(&b, f)
	}
	if text := nothingTested(s); text != "" {
		fmt.Fprintf(&b, "**%s**\n\n", markdown(text))
	}
	for _, note := range notes[:min(len(notes), mostRows)] {
		fmt.Fprintf(&b, "* %s\n", markdown(note))
	}
	if len(notes) > 0 {
		more(&b, len(notes))
	}
	var green, others []record.ScenarioSummary
	for _, c := range s.Scenarios {
		switch {
		case c.RetryOf != "":
		case c.Result.Green():
			green = append(green, c)
		default:
			others = append(others, c)
		}
	}
	if len(others) > 0 {
		b.WriteString("| scenario | result | time | reason | where | what |\n|---|---|---|---|---|---|\n")
		for _, c := range others[:min(len(others), mostRows)] {
			result := string(c.Result)
			if c.Played > 0 {
				result += fmt.Sprintf(", failed %d of %d times", c.Failed, c.Played)
			}
			var reason, where, what string
			if f := c.Failure; f != nil {
				reason, where, what = string(f.Reason), f.Position(), Headline(f)
			} else {
				what = c.Message
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", markdown(c.Name), markdown(result), duration(c.Seconds), markdown(reason), markdown(where), markdown(what))
		}
		more(&b, len(others))
		for _, c := range others[:min(len(others), mostDetails)] {
			if c.Failure != nil {
				fmt.Fprintf(&b, "**%s**: %s\n\n", markdown(c.Name), markdown(Headline(c.Failure)))
				details(&b, c.Failure)
			}
		}
	}
	if len(green) > 0 {
		fmt.Fprintf(&b, "<details><summary>%d green</summary>\n\n| scenario | result | time |\n|---|---|---|\n", len(green))
		for _, c := range green[:min(len(green), mostRows)] {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", markdown(c.Name), markdown(string(c.Result)), duration(c.Seconds))
		}
		more(&b, len(green))
		b.WriteString("</details>\n\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the summary for GitHub: %w", err)
	}
	return nil
}

// details lists what is behind the first line of a failure, and what to do next.
func details(b *strings.Builder, f *record.Failure) {
	for _, part := range []struct {
		label, text string
		most        int
	}{
		{"line", scriptLine(f), 1},
		{"message", message(f), mostLines},
		{"awaited", f.Awaited, 1},
		{"evidence", strings.Join(f.Evidence, "\n"), mostLines},
		{"next", f.NextStep(), mostLines},
	} {
		for _, line := range bounded(part.text, part.most) {
			fmt.Fprintf(b, "* %s: %s\n", part.label, markdown(line))
		}
	}
	b.WriteString("\n")
}

func more(b *strings.Builder, n int) {
	b.WriteString("\n")
	if n > mostRows {
		fmt.Fprintf(b, "and %d more\n\n", n-mostRows)
	}
}

// markdown makes text harmless and gives it no meaning in Markdown, nor in HTML: a character reference stands for nothing but its character.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range shorten(clean(s), lineCells) {
		if strings.ContainsRune("&<>|`*_[]\\~@#!", r) {
			fmt.Fprintf(&b, "&#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Annotations writes a workflow command of GitHub for each scenario that is not green, which puts what happened at its line of the scenario's file.
func Annotations(w io.Writer, s record.Summary) error {
	var b strings.Builder
	n := 0
	tell := func(file string, line int, title, text string) {
		if n++; n > mostAnnotations {
			return
		}
		properties := "title=" + property(title)
		if file != "" {
			properties = "file=" + property(file) + ","
			if line > 0 {
				properties += fmt.Sprintf("line=%d,", line)
			}
			properties += "title=" + property(title)
		}
		lines := strings.Split(strings.TrimSpace(text), "\n")
		for i := range lines {
			lines[i] = annotated(lines[i])
		}
		fmt.Fprintf(&b, "::error %s::%s\n", properties, strings.Join(lines, "%0A"))
	}
	if f := s.Failure; f != nil {
		tell(f.File, f.Line, string(s.Result)+" ("+string(f.Reason)+")", annotation(f))
	}
	for _, c := range s.Scenarios {
		if c.RetryOf != "" || c.Result.Green() {
			continue
		}
		title := c.Name + ": " + string(c.Result)
		if c.Failure != nil {
			title += " (" + string(c.Failure.Reason) + ")"
		}
		switch f := c.Failure; {
		case f == nil:
			tell(c.File, 0, title, c.Message)
		case c.Played > 0:
			tell(orElse(f.File, c.File), f.Line, title, annotation(f)+"\n"+tries(c.Failed, c.Played, nil))
		default:
			tell(orElse(f.File, c.File), f.Line, title, annotation(f))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	return nil
}

// annotation is a failure's headline, and on further lines what happened. None of them begins with what a machine said.
func annotation(f *record.Failure) string {
	text := Headline(f)
	for _, line := range bounded(message(f), mostLines) {
		text += "\nmessage: " + line
	}
	return text
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// annotated is a line as a workflow command has it. clean has already left no end of a line in it.
func annotated(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(shorten(clean(s), lineCells))
}

// property is text as a property of a workflow command has it.
func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(annotated(s))
}
