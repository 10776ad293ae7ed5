import type { DatasetRow } from '@mlx-training/sdk'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { count } from '../../format.ts'

export interface RowProps {
  row: DatasetRow
  view: 'trained' | 'file'
  /** Scrolled to, and marked. */
  target: boolean
  onMask: ((sample: number) => void) | null
}

export function Row({ row, view, target, onMask }: RowProps) {
  const { sample, line, issues, messages, raw } = row
  const ref = useRef<HTMLLIElement>(null)
  useEffect(() => {
    if (target) ref.current?.scrollIntoView({ block: 'nearest' })
  }, [target])
  const trainable = messages !== null || raw !== undefined
  return (
    <li ref={ref} class={target ? 'card data-row target' : 'card data-row'} aria-current={target ? 'true' : undefined}>
      <header class="data-row-head">
        <h3>Row {count(sample)}</h3>
        {line !== null && <span class="muted small">line {count(line)}</span>}
        {trainable && onMask && (
          <Button size="small" variant="ghost" onClick={() => onMask(sample)}>
            Mask<span class="visually-hidden"> of row {sample}</span>
          </Button>
        )}
      </header>
      {issues.length > 0 && (
        <ul class="notice warning row-issues">
          {issues.map(({ code, message, field }) => (
            <li key={code + message}>
              {message}
              {field && !message.includes(field) && <span class="small"> ({field})</span>}
            </li>
          ))}
        </ul>
      )}
      {view === 'trained' && trainable ? <Trained row={row} /> : <InFile row={row} />}
    </li>
  )
}

function Trained({ row: { messages, raw, tools } }: { row: DatasetRow }) {
  if (raw)
    return (
      <dl class="turns">
        {raw.prompt !== '' && <Turn who="prompt" text={raw.prompt} />}
        <Turn who="completion" text={raw.completion} />
      </dl>
    )
  return (
    <>
      {tools && tools.length > 0 && (
        <details class="small">
          <summary>{tools.length === 1 ? '1 tool' : `${tools.length} tools`}</summary>
          <pre class="raw">{JSON.stringify(tools, null, 2)}</pre>
        </details>
      )}
      <dl class="turns">
        {(messages ?? []).map(({ role, content, train }, i) => (
          <Turn key={i} who={role} text={content} unlearned={role === 'assistant' && train === false} />
        ))}
      </dl>
    </>
  )
}

function Turn({ who, text, unlearned = false }: { who: string; text: string; unlearned?: boolean }) {
  return (
    <div class={`turn ${who}`}>
      <dt>
        {who}
        {unlearned && <span class="muted"> not learned</span>}
      </dt>
      <dd>{text === '' ? <em class="muted">empty</em> : <Long text={text} />}</dd>
    </div>
  )
}

function InFile({ row: { row, text } }: { row: DatasetRow }) {
  return (
    <pre class="raw">
      <Long text={row === null ? (text ?? 'null') : JSON.stringify(row, null, 2)} />
    </pre>
  )
}

/** A book in one row made the page 450,000 px high: the rows after it were out of reach. */
const SHOWN = 4000

function Long({ text }: { text: string }) {
  const [all, setAll] = useState(false)
  if (all || text.length <= SHOWN) return <>{text}</>
  return (
    <>
      {text.slice(0, SHOWN)} …{' '}
      <Button size="small" onClick={() => setAll(true)}>
        Show all {count(text.length)} characters
      </Button>
    </>
  )
}
