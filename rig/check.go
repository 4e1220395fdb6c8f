package main

import (
	"fmt"
	"strings"

	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [PATTERN...]",
		Short: "Check scenarios without starting anything",
		Long: `Check reads scenarios and reports everything that is wrong with them: file, line,
reason and next step. Patterns are those of rig run.`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			items, err := find(cmd, patterns)
			if err != nil {
				return err
			}
			if len(items) == 1 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is well formed\n", items[0].Name)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d scenarios are well formed\n", len(items))
			return nil
		},
	}
}

func newListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [PATTERN...]",
		Short: "List scenarios and what each proves",
		RunE: func(cmd *cobra.Command, patterns []string) error {
			items, err := find(cmd, patterns)
			if err != nil {
				return err
			}
			for _, item := range items {
				// A comment's first sentence says what is proved, the rest why.
				title, _, more := strings.Cut(item.Script.Title(), ". ")
				if more {
					title += "."
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-28s %s\n", item.Name, title)
			}
			return nil
		},
	}
}

// find finds scenarios; everything that goes wrong with that is a matter of usage.
func find(cmd *cobra.Command, patterns []string) ([]suite.Item, error) {
	dir, err := project(cmd)
	if err != nil {
		return nil, usage("%w", err)
	}
	items, err := suite.Find(dir, patterns)
	if err != nil {
		return nil, usage("%w", err)
	}
	return items, nil
}
