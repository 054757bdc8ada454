"""Training with a teacher: where the annotation leaves several classes open, a moving average of the network has a say."""

from typing import Any

from torch import Tensor, nn

from nnunet_partial.networks import Teacher
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.helped_trainer import HelpedTrainer


class TeacherTrainer(HelpedTrainer):
    """Base of the trainers with a teacher; nnU-Net's own network is its student.

    Where the epochs on annotation alone end, the teacher is the student as it stands, and from there on its moving average.
    """

    def build_helpers(self) -> dict[str, nn.Module]:
        """The teacher."""
        return {**super().build_helpers(), "teacher": Teacher(bare(self.network), self.settings.ema_decay)}

    def lessons(self, image: Tensor) -> dict[str, Tensor | float]:
        """The teacher's word."""
        return {**super().lessons(image), "teacher_logits": self.ask_teacher(image)}

    def ask_teacher(self, image: Tensor) -> Tensor:
        """Logits of the teacher on the image with noise."""
        return self.teacher(self.noisy(image))

    @property
    def teacher(self) -> Teacher:
        """The moving average of the network."""
        return self.helpers["teacher"]

    def on_train_epoch_start(self) -> None:
        """The epoch start of every trainer; where the teacher begins, it takes over the student's weights."""
        super().on_train_epoch_start()
        if self.epochs_taught >= 0 and not self.teacher.has_begun:
            self.print_to_log_file("the teacher begins: from now on voxels with several candidate classes teach too")
            self.teacher.update(bare(self.network))

    def train_step(self, batch: dict[str, Any]) -> dict:
        """The step of every trainer with helpers; the teacher then follows."""
        outputs = super().train_step(batch)
        if self.epochs_taught >= 0:
            self.teacher.update(bare(self.network))
        return outputs
