//! Answers beside what is right, and one number for all of them.

use dure_types::model::{Datatype, Signature};
use serde_json::{Value, json};

use super::{prediction_of, rows::plain};
use crate::{messages, output::format};

/// One row's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As the service gave it.
    pub row: Value,
    pub prediction: String,
    /// The largest of the probabilities, where the model gives some.
    pub confidence: Option<f64>,
    pub truth: Option<String>,
}

impl Answer {
    pub fn of(row: Value, signature: &Signature, truth: Option<String>) -> Self {
        let name = prediction_of(signature).map(|output| output.name.clone()).unwrap_or_default();
        let prediction = row.get(&name).map(plain).unwrap_or_else(|| plain(&row));
        let others = row.as_object().into_iter().flatten().filter(|(key, _)| **key != name);
        let confidence =
            others.filter(|(key, _)| key.to_lowercase().contains("prob")).find_map(|(_, value)| largest(value));
        Self { row, prediction, confidence, truth }
    }

    pub fn is_right(&self) -> bool {
        self.truth.as_ref().is_some_and(|truth| same(&self.prediction, truth))
    }

    pub fn off_by(&self) -> Option<f64> {
        let truth: f64 = self.truth.as_ref()?.parse().ok()?;
        Some((self.prediction.parse::<f64>().ok()? - truth).abs())
    }

    pub fn to_json(&self, score: &Score) -> Value {
        let mut value = json!({"prediction": self.prediction, "outputs": self.row});
        if let (Some(truth), Some(fields)) = (&self.truth, value.as_object_mut()) {
            fields.insert("truth".to_owned(), json!(truth));
            if matches!(score, Score::Classes { .. }) {
                fields.insert("ok".to_owned(), json!(self.is_right()));
            }
        }
        value
    }
}

fn largest(value: &Value) -> Option<f64> {
    let numbers: Vec<f64> = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_f64).collect(),
        Value::Object(fields) => fields.values().filter_map(Value::as_f64).collect(),
        _ => Vec::new(),
    };
    numbers.into_iter().reduce(f64::max)
}

/// `3` and `3.0` are the same class.
fn same(one: &str, other: &str) -> bool {
    one == other || matches!((one.parse::<f64>(), other.parse::<f64>()), (Ok(one), Ok(other)) if one == other)
}

#[derive(Debug, Clone, PartialEq)]
pub enum Score {
    None,
    Classes { right: usize, of: usize },
    Numbers { mean_error: f64, of: usize },
}

impl Score {
    /// A network without labels answers a number for each class: there the largest becomes the prediction.
    pub fn of(answers: &mut [Answer], signature: &Signature) -> Self {
        let of = answers.len();
        if of == 0 || answers.iter().any(|answer| answer.truth.is_none()) {
            return Self::None;
        }
        let continuous = prediction_of(signature).is_some_and(|output| {
            matches!(output.datatype, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64)
        });
        if continuous {
            let errors: Option<Vec<f64>> = answers.iter().map(Answer::off_by).collect();
            if let Some(errors) = errors {
                return Self::Numbers { mean_error: errors.iter().sum::<f64>() / of as f64, of };
            }
            let classes: Option<Vec<usize>> = answers.iter().map(class).collect();
            let Some(classes) = classes else { return Self::None };
            for (answer, class) in answers.iter_mut().zip(classes) {
                answer.prediction = class.to_string();
            }
        }
        Self::Classes { right: answers.iter().filter(|answer| answer.is_right()).count(), of }
    }

    pub fn summary(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Classes { right, of } => {
                let share = if *of == 0 { 0.0 } else { *right as f64 / *of as f64 };
                Some(messages::accuracy(format!("{share:.4}"), right, of))
            }
            Self::Numbers { mean_error, of } => Some(messages::mean_error(format::number(*mean_error), of)),
        }
    }
}

/// The place of the largest of a row's numbers, where the truth is the number of a place too.
fn class(answer: &Answer) -> Option<usize> {
    let numbers: Vec<f64> = serde_json::from_str(&answer.prediction).ok()?;
    let truth: usize = answer.truth.as_ref()?.parse().ok()?;
    let (best, _) = numbers.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (numbers.len() > 1 && truth < numbers.len()).then_some(best)
}

#[cfg(test)]
mod tests {
    use dure_types::model::TensorSpec;

    use super::*;

    fn signature(outputs: &[(&str, Datatype)]) -> Signature {
        let outputs = outputs
            .iter()
            .map(|(name, datatype)| TensorSpec {
                name: (*name).to_owned(),
                datatype: *datatype,
                shape: vec![-1],
                map_keys: None,
            })
            .collect();
        Signature { inputs: Vec::new(), outputs }
    }

    fn answers(signature: &Signature, rows: &[(Value, &str)]) -> Vec<Answer> {
        rows.iter().map(|(row, truth)| Answer::of(row.clone(), signature, Some((*truth).to_owned()))).collect()
    }

    #[test]
    fn labels_are_counted_and_their_probability_is_shown() {
        let signature = signature(&[("output_probability", Datatype::Fp32), ("output_label", Datatype::Int64)]);
        let mut answers = answers(
            &signature,
            &[
                (json!({"output_label": 3, "output_probability": {"3": 0.9, "4": 0.1}}), "3"),
                (json!({"output_label": 4, "output_probability": {"3": 0.4, "4": 0.6}}), "4.0"),
                (json!({"output_label": 4, "output_probability": {}}), "cat"),
            ],
        );
        let score = Score::of(&mut answers, &signature);
        assert_eq!(score, Score::Classes { right: 2, of: 3 });
        assert_eq!(score.summary().unwrap(), messages::accuracy("0.6667", 2, 3));
        assert_eq!((answers[0].confidence, answers[2].confidence), (Some(0.9), None));
    }

    #[test]
    fn numbers_are_judged_by_how_far_they_are_off() {
        let signature = signature(&[("variable", Datatype::Fp32)]);
        let mut answers = answers(&signature, &[(json!({"variable": 1.5}), "1"), (json!({"variable": -2}), "-3.5")]);
        assert_eq!(Score::of(&mut answers, &signature), Score::Numbers { mean_error: 1.0, of: 2 });
    }

    #[test]
    fn of_a_number_for_each_class_the_largest_is_the_prediction() {
        let signature = signature(&[("logits", Datatype::Fp32)]);
        let mut classes =
            answers(&signature, &[(json!({"logits": [0.1, 2.5, -1]}), "1"), (json!({"logits": [3, 2, 1]}), "2")]);
        assert_eq!(Score::of(&mut classes, &signature), Score::Classes { right: 1, of: 2 });
        assert_eq!(classes[1].prediction, "0");
        let mut vectors = answers(&signature, &[(json!({"logits": [0.1, 2.5]}), "0.7")]);
        assert_eq!(Score::of(&mut vectors, &signature), Score::None);
    }
}
