/** To the row before, the next one, or one by its number. Rows count from 0, as in messages of the service. */
import { useEffect, useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { Field } from '../../components/field.tsx'
import { count } from '../../format.ts'

export interface RowPagerProps {
  sample: number
  total: number | null
  onSample: (sample: number) => void
}

export function RowPager({ sample, total, onSample }: RowPagerProps) {
  const [typed, setTyped] = useState(String(sample))
  useEffect(() => setTyped(String(sample)), [sample])
  const last = total === null ? Number.MAX_SAFE_INTEGER : Math.max(0, total - 1)
  const go = (to: number) => onSample(Math.min(Math.max(0, to), last))
  return (
    <form
      class="row-pager"
      onSubmit={(event) => {
        event.preventDefault()
        const to = Number.parseInt(typed, 10)
        if (Number.isNaN(to)) setTyped(String(sample))
        else go(to)
      }}
    >
      <Button icon="left" size="small" label="Row before" disabled={sample <= 0} onClick={() => go(sample - 1)} />
      <span class="muted" aria-hidden="true">
        Row
      </span>
      <Field label="Row number, from 0" quiet>
        {(props) => (
          <input
            {...props}
            inputMode="numeric"
            autocomplete="off"
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
            onBlur={(event) => event.currentTarget.form?.requestSubmit()}
          />
        )}
      </Field>
      {total !== null && <span class="muted">of {count(total)}</span>}
      <Button icon="right" size="small" label="Next row" disabled={sample >= last} onClick={() => go(sample + 1)} />
    </form>
  )
}
