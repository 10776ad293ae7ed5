/** Errors and warnings by their codes, each with the rows that it was found in. */
import type { Dataset } from '@mlx-training/sdk'
import { Badge } from '../../components/badge.tsx'
import { Card } from '../../components/facts.tsx'
import { EmptyState } from '../../components/states.tsx'
import { count } from '../../format.ts'
import { RowLinks } from '../data/supervision.tsx'

export interface Kind {
  code: string
  severity: 'error' | 'warning'
  /** All that were found, of which the report names the first. */
  times: number
  message: string
  samples: number[]
}

/** Errors first, then the most frequent. */
export function kindsOf({ counts, issues, errors, warnings, valid }: Dataset['report']): Kind[] {
  const kinds = Object.entries(counts).map(([code, times]): Kind => {
    const found = issues.filter((issue) => issue.code === code)
    const message = found[0]?.message ?? code
    // The report does not say which codes are errors, but has the first hundred of errors and of warnings apart in words.
    const among = (texts: readonly string[]) =>
      found.some(({ message }) => texts.some((text) => text.endsWith(message)))
    const severity = among(errors) || (!valid && !among(warnings)) ? 'error' : 'warning'
    const samples = [...new Set(found.map(({ sample }) => sample))].filter((sample) => sample !== null)
    return { code, severity, times, message, samples }
  })
  return kinds.sort((a, b) => (a.severity === b.severity ? b.times - a.times : a.severity === 'error' ? -1 : 1))
}

export function Findings({ kinds, onRow }: { kinds: readonly Kind[]; onRow?: ((sample: number) => void) | undefined }) {
  return (
    <Card title="Findings" flush>
      {kinds.length === 0 ? (
        <EmptyState
          icon="check"
          title="Nothing was found"
          text="Every row was checked, and none had anything to tell of."
        />
      ) : (
        <ul class="findings">
          {kinds.map((kind) => (
            <li key={kind.code}>
              <div class="finding-head">
                <Badge tone={kind.severity === 'error' ? 'bad' : 'warning'}>{kind.severity}</Badge>
                <strong>{kind.code.replaceAll('_', ' ')}</strong>
                <span class="muted">{kind.times === 1 ? 'once' : `${count(kind.times)} times`}</span>
                <RowLinks samples={kind.samples} onRow={onRow} />
              </div>
              <p class="small">{kind.message}</p>
            </li>
          ))}
        </ul>
      )}
    </Card>
  )
}
