/** The models that stand side by side: to change, to remove, to add one. */
import { Button } from '../../components/button.tsx'
import { addColumn, changeModel, columns, MOST_COLUMNS, removeColumn } from './conversation.ts'
import { ModelPicker } from './model-picker.tsx'
import { type Choices, naming } from './models.ts'

export function Columns({ choices }: { choices: Choices }) {
  const shown = columns.value
  return (
    <div class="chat-models">
      <div class="chat-side-by-side">
        {shown.map(({ id, model }, i) => (
          <div key={id} class="chat-model-slot">
            <span class={`chat-dot chat-dot-${i + 1}`} aria-hidden="true" />
            <ModelPicker
              choices={choices}
              value={model}
              label={`Model ${i + 1}`}
              onChoose={(chosen) => changeModel(id, chosen)}
            />
            {shown.length > 1 && (
              <Button
                size="small"
                variant="ghost"
                icon="close"
                label={`Remove ${naming(model).name}`}
                onClick={() => removeColumn(id)}
              />
            )}
          </div>
        ))}
      </div>
      {shown.length < MOST_COLUMNS && (
        <ModelPicker
          choices={choices}
          value={null}
          label={shown.length === 0 ? 'Choose a model' : 'Add a model'}
          onChoose={addColumn}
        />
      )}
    </div>
  )
}
