package report

import (
	"fmt"
	"io"
	"strings"

	"dsoftbus-rig/rig/record"
)

// mostRows is how many scenarios a table has at most, and mostAnnotations how many annotations: a build server shows no more than some.
const (
	mostRows        = 200
	mostAnnotations = 50
)

// Markdown writes a run as GitHub shows it on the page of a job (GITHUB_STEP_SUMMARY): what it amounts to, a table of the scenarios that are not green, and
// one of the others folded away. All text is made harmless to Markdown.
func Markdown(w io.Writer, s record.Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n%s in %s", markdown(s.Name), markdown(string(s.Result)), count(s), duration(s.Seconds))
	if s.Host.Line != "" {
		fmt.Fprintf(&b, ", on %s", markdown(s.Host.Line))
	}
	b.WriteString("\n\n")
	if f := s.Failure; f != nil {
		fmt.Fprintf(&b, "**%s**: %s\n\n", markdown(string(f.Reason)), markdown(firstLine(f)))
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
				reason, where, what = string(f.Reason), f.Position(), firstLine(f)
			} else {
				what = c.Message
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", markdown(c.Name), markdown(result), duration(c.Seconds), markdown(reason), markdown(where), markdown(what))
		}
		more(&b, len(others))
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
		fmt.Fprintf(&b, "::error %s::%s\n", properties, annotated(text))
	}
	if f := s.Failure; f != nil {
		tell(f.File, f.Line, string(s.Result), string(f.Reason)+": "+firstLine(f))
	}
	for _, c := range s.Scenarios {
		if c.RetryOf != "" || c.Result.Green() {
			continue
		}
		title := c.Name + ": " + string(c.Result)
		switch f := c.Failure; {
		case f == nil:
			tell(c.File, 0, title, c.Message)
		case c.Played > 0:
			tell(orElse(f.File, c.File), f.Line, title, tries(c.Failed, c.Played, f))
		default:
			tell(orElse(f.File, c.File), f.Line, title, string(f.Reason)+": "+firstLine(f))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	return nil
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// annotated is text as a workflow command has it. clean has already left no end of a line in it.
func annotated(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(shorten(clean(s), lineCells))
}

// property is text as a property of a workflow command has it.
func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(annotated(s))
}
