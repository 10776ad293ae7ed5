import { useState } from 'preact/hooks'
import { CodeTabs } from '../../components/code-tabs.tsx'
import { Dialog } from '../../components/dialog.tsx'
import { Field, Select } from '../../components/field.tsx'
import { samplesOf } from './code-samples.ts'
import { columns, draft, requestFor, turns } from './conversation.ts'

const EXAMPLE = 'What does a learning rate do?'

/** The last question, as a program would ask it; before the first one, what stands in the input. */
export function CodeDialog({ onClose }: { onClose: () => void }) {
  const [chosen, setChosen] = useState(columns.value[0]?.id ?? 0)
  const column = columns.value.find(({ id }) => id === chosen) ?? columns.value[0]
  if (!column) return null
  const turn = turns.value.at(-1) ?? { id: 0, prompt: draft.value.trim() || EXAMPLE, answers: {} }
  const request = requestFor(turn, column.id, column.model)
  return (
    <Dialog title="The same request as code" onClose={onClose} wide>
      <div class="stack">
        {columns.value.length > 1 && (
          <Field label="Model">
            {(props) => (
              <Select
                {...props}
                value={String(column.id)}
                options={columns.value.map(({ id, model }) => ({ value: String(id), label: model }))}
                onChange={(id) => setChosen(Number(id))}
              />
            )}
          </Field>
        )}
        <CodeTabs samples={samplesOf(request, window.location.origin)} />
      </div>
    </Dialog>
  )
}
