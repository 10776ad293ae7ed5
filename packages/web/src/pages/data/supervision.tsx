/** What training would make of the rows: the supervision report. */
import type { Supervision as Report } from '@mlx-training/sdk'
import { Button } from '../../components/button.tsx'
import { Stat } from '../../components/facts.tsx'
import { ShareBar } from '../../components/share-bar.tsx'
import { count, percent } from '../../format.ts'

export interface SupervisionProps {
  report: Report
  onRow: (sample: number) => void
  /** Takes the suggested max_seq_length; left out, it is told only. */
  onLength?: (tokens: number) => void
}

export function Supervision({ report, onRow, onLength }: SupervisionProps) {
  const { tokens, rows, used_rows, lengths, suggested_max_seq_length: suggested } = report
  return (
    <div class="stack supervision">
      {report.refusal && <p class="notice bad">A run with these settings would be refused: {report.refusal}</p>}
      <div class="stats">
        <Stat
          label="Rows learned from"
          value={count(used_rows)}
          note={used_rows === rows ? 'all of them' : `of ${count(rows)}`}
        />
        <Stat
          label="Steps an epoch"
          value={count(report.steps_per_epoch)}
          note={`batches of ${count(report.batch_size)}`}
        />
        <Stat label="Longest row" value={count(lengths?.max)} note={`tokens; the limit is ${count(report.limit)}`} />
        <Stat label="Median row" value={count(lengths?.p50)} note={`95% at most ${count(lengths?.p95)}`} />
        <Stat
          label="Cut rows"
          value={count(report.cut_rows)}
          note={report.cut_rows === 0 ? 'none is too long' : undefined}
        />
        <Stat
          label="Padding"
          value={percent(report.padding_share * 100, 1)}
          note={
            report.packing
              ? `packed; ${percent(report.padding_share_unpacked * 100, 0)} without`
              : 'of what is computed'
          }
        />
      </div>
      <ShareBar
        label="Tokens of an epoch"
        shares={[
          { label: 'Trained', value: tokens.trained, tone: 'trained' },
          { label: 'Masked', value: tokens.masked, tone: 'masked' },
          { label: 'Cut', value: tokens.cut, tone: 'cut' },
          { label: 'Unused', value: tokens.unused, tone: 'unused' },
        ]}
      />
      {suggested !== null && report.suggestion && (
        <div class="notice row spread">
          <span>{report.suggestion}</span>
          {onLength && (
            <Button size="small" onClick={() => onLength(suggested)}>
              Use {count(suggested)} tokens
            </Button>
          )}
        </div>
      )}
      {report.findings.map(({ code, message, samples }) => (
        <div key={code} class="notice warning">
          <p>{message}</p>
          <RowLinks samples={samples} onRow={onRow} />
        </div>
      ))}
      <RowLinks label="Longest rows" samples={report.longest.map(({ sample }) => sample)} onRow={onRow} />
      {report.opening && (
        <details class="small">
          <summary>What the model’s template puts before a first question</summary>
          <pre class="raw">{report.opening}</pre>
        </details>
      )}
    </div>
  )
}

export interface RowLinksProps {
  samples: readonly number[]
  /** Left out: numbers without links. */
  onRow?: ((sample: number) => void) | undefined
  label?: string
}

export function RowLinks({ samples, onRow, label = samples.length === 1 ? 'Row' : 'Rows' }: RowLinksProps) {
  if (samples.length === 0) return null
  return (
    <p class="row-links">
      {label}{' '}
      {samples.map((sample) =>
        onRow ? (
          <button key={sample} type="button" class="link" onClick={() => onRow(sample)}>
            {count(sample)}
          </button>
        ) : (
          <span key={sample}>{count(sample)}</span>
        ),
      )}
    </p>
  )
}
