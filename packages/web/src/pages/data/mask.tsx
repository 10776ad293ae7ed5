/** The mask of one row: every token with what becomes of it in training. */
import { ApiError, type PreviewInput, type PreviewResponse } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { Segmented } from '../../components/field.tsx'
import { ErrorState, Skeleton } from '../../components/states.tsx'
import { count } from '../../format.ts'
import { useLoad } from '../../live/load.ts'
import { RowPager } from './row-pager.tsx'

type Text = PreviewResponse['rows'][number]['texts'][number]

export const STATES = [
  { state: 'trained', label: 'Trained', what: 'predicted: carries loss' },
  { state: 'masked', label: 'Masked', what: 'read, not predicted' },
  { state: 'cut', label: 'Cut', what: 'lost to the length limit' },
  { state: 'unused', label: 'Unused', what: 'never shown to the model' },
] as const

export interface MaskProps {
  /** Which file, model and limits; without the row. */
  of: Omit<PreviewInput, 'samples'>
  sample: number
  /** Rows of the file; null: not known. */
  total: number | null
  onSample: (sample: number) => void
}

export function Mask({ of, sample, total, onSample }: MaskProps) {
  const { data, error, loading, reload } = useLoad(
    (client, signal) => client.datasets.preview({ ...of, samples: [sample] }, { signal }),
    [of, sample],
  )
  const [by, setBy] = useState<'token' | 'part'>('token')
  const row = data?.rows[0]
  return (
    <div class="stack">
      <div class="row spread">
        <RowPager sample={sample} total={total} onSample={onSample} />
        <Segmented
          label="Show by"
          value={by}
          onChange={setBy}
          options={[
            { value: 'token', label: 'Tokens' },
            { value: 'part', label: 'Roles' },
          ]}
        />
      </div>
      {error instanceof ApiError && error.status < 500 ? (
        <p class="notice warning">{error.message}</p>
      ) : error ? (
        <ErrorState error={error} onRetry={reload} />
      ) : !row ? (
        <Skeleton lines={5} />
      ) : (
        <div class={loading ? 'stack stale' : 'stack'} aria-busy={loading}>
          {row.problem && <p class="notice bad">Nothing of this row is learned: {row.problem}</p>}
          {row.notes.map(({ code, message }) => (
            <p key={code} class="notice warning">
              {message}
            </p>
          ))}
          {row.texts.map((text, i) => (
            <div key={i} class="stack tight">
              {by === 'token' ? <Tokens text={text} /> : <Parts text={text} />}
            </div>
          ))}
        </div>
      )}
    </div>
  )
}

/** Elements beyond these make a browser slow, and nobody reads them. */
const SHOWN = 4000

function Tokens({ text: { pieces, tokens, omitted } }: { text: Text }) {
  const [all, setAll] = useState(false)
  const shown = all ? pieces : pieces.slice(0, SHOWN)
  return (
    <>
      <ul class="mask-legend">
        {STATES.map(
          ({ state, label, what }) =>
            tokens[state] > 0 && (
              <li key={state}>
                <span class={`token ${state}`}>{label}</span> <strong>{count(tokens[state])}</strong>{' '}
                <span class="muted">{what}</span>
              </li>
            ),
        )}
      </ul>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it */}
      <section class="mask" tabIndex={0} aria-label="The row, token by token">
        {shown.map(({ text, ids, state }, i) => (
          <span key={i} class={`token ${state}`} title={`${state} · token ${ids.join(', ')}`}>
            {visible(text)}
          </span>
        ))}
      </section>
      {(pieces.length > shown.length || omitted > 0) && (
        <p class="muted small">
          {count(pieces.length - shown.length + omitted)} more tokens{' '}
          {pieces.length > shown.length && (
            <Button size="small" onClick={() => setAll(true)}>
              Show them
            </Button>
          )}
        </p>
      )}
    </>
  )
}

/** Line ends are tokens too, and must be seen. */
const visible = (text: string) => text.replaceAll('\n', '↵\n').replaceAll('\t', '⇥\t')

function Parts({ text: { parts } }: { text: Text }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it
    <section class="mask" tabIndex={0} aria-label="The row, part by part">
      {parts.map(({ role, text }, i) => (
        <span key={i} class={role === null ? 'part template' : `part ${role}`} title={role ?? 'template'}>
          {visible(text)}
        </span>
      ))}
    </section>
  )
}
