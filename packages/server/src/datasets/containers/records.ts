import type { Report } from '../report.ts'

/** A report on rows that stand in no lines: those of the text that they were written as mean nothing to anybody. */
export function withoutLines(report: Report): Report {
  return {
    ...report,
    errors: report.errors.map((error) => error.replace(/^Sample (\d+) \(line \d+\): /, 'Sample $1: ')),
    issues: report.issues.map((issue) => ({ ...issue, line: null, offset: null })),
  }
}
