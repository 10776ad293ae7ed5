import { useState } from 'preact/hooks'
import { Card } from '../../components/facts.tsx'
import { Field, Select } from '../../components/field.tsx'
import { EmptyState } from '../../components/states.tsx'
import { count } from '../../format.ts'
import type { Run } from '../../live/run.ts'

/** What base and tuned model answer to the same questions, as training goes on. */
export function Samples({ run }: { run: Run }) {
  void run.version.value
  const { samples } = run.data
  const steps = [...new Set(samples.map(({ step }) => step))].sort((a, b) => a - b)
  const [chosen, setChosen] = useState<number | null>(null)
  const step = chosen !== null && steps.includes(chosen) ? chosen : steps.at(-1)
  if (step === undefined)
    return (
      <Card>
        <EmptyState
          icon="chat"
          title="No samples"
          text="With sample_prompts in its configuration, base and tuned model answer the same questions as training goes on."
        />
      </Card>
    )
  return (
    <Card
      title="Base against tuned"
      actions={
        <Field label="After step" quiet>
          {(props) => (
            <Select
              {...props}
              value={String(step)}
              options={steps.map((at) => ({ value: String(at), label: `After step ${count(at)}` }))}
              onChange={(at) => setChosen(Number(at))}
            />
          )}
        </Field>
      }
    >
      <div class="stack">
        {samples
          .filter((sample) => sample.step === step)
          .map(({ prompt, base, tuned }) => (
            <article class="sample" key={prompt}>
              <h3>{prompt}</h3>
              <div class="answers">
                <div class="answer">
                  <span class="answer-label">Base</span>
                  {base}
                </div>
                <div class="answer tuned">
                  <span class="answer-label">Tuned</span>
                  {tuned}
                </div>
              </div>
            </article>
          ))}
      </div>
    </Card>
  )
}
